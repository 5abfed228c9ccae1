"""Processes killed and paused at points of the path, while clients send; what was promised is checked from outside."""
