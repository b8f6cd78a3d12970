"""The steps of build_open_hand.py, each on its own."""
