"""Where an error starts: replay with hooks, judged place by place."""
