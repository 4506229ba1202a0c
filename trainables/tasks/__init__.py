"""Tasks and their simulators, one file a suite, and acting in them."""
