"""A place for feeds beside the real one: what stands here shows that a new feed is one new folder."""
