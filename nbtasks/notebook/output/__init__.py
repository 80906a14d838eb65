"""Output of background cells: kept, published, shown where no widgets are."""
