"""gunicorn.http"""
