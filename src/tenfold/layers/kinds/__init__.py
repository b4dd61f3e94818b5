"""One file a kind of module; `tenfold.layers` names them."""
