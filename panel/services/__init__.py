"""What the panel does. Pages, API, console and CLI all call these; nothing else does the work."""
