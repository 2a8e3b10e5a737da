"""The graph view: Netron's front end in one sandboxed document, and tables where it cannot be drawn."""
