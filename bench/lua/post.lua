-- A POST with a body of 10 KB. `wrk.request` formats it once, so it costs the generator nothing per request.
wrk.method = "POST"
wrk.body = string.rep("x", 10240)
wrk.headers["Content-Type"] = "application/octet-stream"
dofile("lua/report.lua")
