"""The view: what the stream says now, over HTTP, as JSON and as a page for people."""
