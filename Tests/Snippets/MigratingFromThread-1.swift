// not compiled: it is the class that everybody writes, and what is wrong with it.
