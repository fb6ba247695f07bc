"""A factory of PasteDeploy."""


def make(global_conf, **local_conf):
    answer = (local_conf.get("word") or global_conf["greeting"]).encode()

    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]

    return application
