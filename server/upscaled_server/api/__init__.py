"""The contract on the wire: servicers check, call, translate and return; everything else is below them."""
