"""What `mailstream run` is made of: parts kept alive, their logs, and what the terminal shows."""
