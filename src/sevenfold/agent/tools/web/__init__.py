"""Pages of the public web: addresses, the fetch, the text of a page, the tool."""
