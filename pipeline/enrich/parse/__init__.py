"""One parser per source: its JSON to a MailEvent."""
