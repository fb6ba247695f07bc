"""Serves a file of PasteDeploy as pserve does: application and server as that names them."""

import sys

from paste.deploy import loadapp, loadserver

loadserver("config:" + sys.argv[1])(loadapp("config:" + sys.argv[1]))
