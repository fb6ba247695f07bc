"""Variables for the application."""

raw_env = ["DJANGO_SETTINGS_MODULE=mysite.settings", "SHOP_TOKEN=a=b"]
proc_name = "shop"
pythonpath = "lib,src"
