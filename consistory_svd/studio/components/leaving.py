"""A question before the page is closed or loaded again while something is told: it would be stopped."""


def ask_before_leaving(room: str) -> str:
    """JavaScript: from now on the browser asks, on account of a room."""
    return f"""() => {{
  (window.roomsTelling ||= new Set()).add("{room}");
  window.onbeforeunload = (event) => {{ event.preventDefault(); event.returnValue = true; }};
}}"""


def leave_freely(room: str) -> str:
    """JavaScript: the room is done; without another one the browser asks no longer."""
    return f"""() => {{
  window.roomsTelling?.delete("{room}");
  if (!window.roomsTelling?.size) window.onbeforeunload = null;
}}"""
