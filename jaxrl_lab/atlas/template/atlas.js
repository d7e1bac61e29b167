"use strict";
// Searches, filters and sorts the cards, and enlarges figures. Without it all cards are shown.

const $ = (selector) => document.querySelector(selector);
const cards = [...document.querySelectorAll(".card")].map((element) => ({
  element,
  head: [...element.querySelectorAll("header, dl")].map((e) => e.textContent).join(" ").toLowerCase(),
  claims: [...element.querySelectorAll(".claim")].map((claim) => ({
    element: claim,
    text: claim.textContent.toLowerCase(),
    outcome: claim.dataset.outcome,
  })),
}));
const filters = [...document.querySelectorAll(".filter button")];
let outcome = "";

const byName = (a, b) => a.element.dataset.name.localeCompare(b.element.dataset.name);
const number = (card, key) => Number(card.element.dataset[key]);
const share = (card, key) => number(card, key) / Math.max(1, card.claims.length);
const orders = {
  name: byName,
  reproduced: (a, b) => share(b, "reproduced") - share(a, "reproduced") || byName(a, b),
  refuted: (a, b) => share(b, "refuted") - share(a, "refuted") || byName(a, b),
  seconds: (a, b) => number(a, "seconds") - number(b, "seconds") || byName(a, b),
};

function plural(n, of, one, many) {
  return `${n} of ${of} ${of === 1 ? one : many}`;
}

// A word may stand in the head of a card, which keeps all its claims, or in single claims.
function show() {
  const words = $("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shownCards = 0;
  let shownClaims = 0;
  for (const card of cards) {
    const missing = words.filter((word) => !card.head.includes(word));
    let left = 0;
    for (const claim of card.claims) {
      const fits = missing.every((word) => claim.text.includes(word));
      claim.element.hidden = !(fits && (!outcome || claim.outcome === outcome));
      left += !claim.element.hidden;
    }
    const empty = card.claims.length === 0 && missing.length === 0 && !outcome;
    card.element.hidden = left === 0 && !empty;
    shownCards += !card.element.hidden;
    shownClaims += left;
  }
  const claims = cards.reduce((sum, card) => sum + card.claims.length, 0);
  $("#status").textContent =
    `${plural(shownCards, cards.length, "phenomenon", "phenomena")}, ` +
    `${plural(shownClaims, claims, "claim", "claims")}`;
  $("#nothing").hidden = shownCards > 0;
}

function sort() {
  const sorted = [...cards].sort(orders[$("#sort").value]);
  $("#cards").append(...sorted.map((card) => card.element));
}

function choose(button) {
  outcome = button.dataset.outcome;
  for (const one of filters) one.setAttribute("aria-pressed", String(one === button));
  show();
}

function step(by) {
  const shown = [...document.querySelectorAll(".card:not([hidden])")];
  const at = shown.findIndex((card) => card.contains(document.activeElement));
  const next = shown[at < 0 ? (by > 0 ? 0 : shown.length - 1) : at + by];
  next?.focus();
  next?.scrollIntoView({ block: "start" });
}

function enlarge(button) {
  const image = $("#large img");
  image.src = button.querySelector("img").src;
  image.alt = button.querySelector("img").alt;
  $("#large").showModal();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, dialog");
  if (event.key === "Escape" && event.target.id === "search") {
    $("#search").value = "";
    show();
  } else if (typing || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  } else if (event.key === "/") {
    event.preventDefault();
    $("#search").focus();
  } else if (event.key === "j" || event.key === "k") {
    step(event.key === "j" ? 1 : -1);
  }
});
$("#search").addEventListener("input", show);
$("#sort").addEventListener("change", sort);
$(".tools").addEventListener("submit", (event) => event.preventDefault());
for (const button of filters) button.addEventListener("click", () => choose(button));
for (const button of document.querySelectorAll(".enlarge")) {
  button.addEventListener("click", () => enlarge(button));
}
$(".tools").hidden = false;
show();
