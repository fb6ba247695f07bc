"""Serves the module `early`, which has the GIL enabled, where none may be."""

import early

import portico

try:
    portico.serve(early.application, bind="127.0.0.1:0", require_free_threading=True)
except RuntimeError as error:
    print(error)
