"""The tests of chronova; a package, so that tests share helpers by import."""
