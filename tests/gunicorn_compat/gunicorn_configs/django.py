"""Django behind nginx, after many a tutorial."""

wsgi_app = "shop:application"
bind = "127.0.0.1:0"
workers = 3
loglevel = "debug"
accesslog = "access.log"
errorlog = "error.log"
capture_output = True
pidfile = "shop.pid"
timeout = 60
daemon = False
reload = False
