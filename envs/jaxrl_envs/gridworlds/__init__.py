"""Movement on small grids, enumerable to the last trajectory."""
