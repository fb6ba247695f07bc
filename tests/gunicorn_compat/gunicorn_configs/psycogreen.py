"""psycogreen: the database driver is patched in each worker."""


def post_fork(server, worker):
    from psycogreen.gevent import patch_psycopg

    patch_psycopg()
    worker.log.info("Made Psycopg2 Green")
