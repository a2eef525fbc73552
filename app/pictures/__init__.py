"""Pictures of images and of what networks say of them. Needs no layer and no network."""
