"""What else an exported network becomes: a small file for browsers, and OpenVINO's and Apple's formats."""
