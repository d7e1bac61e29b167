from .cards import Card as Card
from .cards import collect as collect
from .page import render as render
from .write import build as build
