"""The page that shows a network think: `routes.page_router`, and the viewers it asks."""
