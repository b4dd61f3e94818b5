"""One file a kind of exported file: `opened(file, threads)` gives its forward, arrays in and arrays out.

They import nothing of tenfold, and are run by their paths too, in processes that have no tenfold (`alone`).
"""
