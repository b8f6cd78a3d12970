"""FreiHAND's own figures: predictions, the official scores, the report, the server's file."""
