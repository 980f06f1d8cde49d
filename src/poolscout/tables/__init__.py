"""Every artefact on disk: declared columns, atomic files, manifests."""
