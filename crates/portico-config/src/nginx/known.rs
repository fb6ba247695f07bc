//! What is known of nginx's directives: those that become a route or a setting, those that Portico does not need,
//! and what to do in place of the others.

use super::syntax::NginxDirective;

/// What becomes of a directive.
pub(super) enum KnownDirective {
    /// It is read elsewhere, and what cannot be taken of it is told there.
    Taken,
    /// Portico does so, or has nothing that it is about.
    Needless,
    /// There is another way.
    Instead(&'static str),
    /// It decides about requests and cannot be taken: what is written is not what the file says.
    Never(&'static str),
    /// Nothing is known of it.
    Not,
}

const TAKEN: &[&str] = &[
    "add_header",
    "alias",
    "allow",
    "auth_basic",
    "auth_basic_user_file",
    "autoindex",
    "client_max_body_size",
    "deny",
    "error_page",
    "expires",
    "gzip",
    "http",
    "if",
    "index",
    "internal",
    "limit_req",
    "limit_req_dry_run",
    "limit_req_status",
    "limit_req_zone",
    "listen",
    "location",
    "proxy_hide_header",
    "proxy_intercept_errors",
    "proxy_pass",
    "proxy_read_timeout",
    "proxy_request_buffering",
    "return",
    "rewrite",
    "root",
    "scgi_pass",
    "server",
    "server_name",
    "ssl_certificate",
    "ssl_certificate_key",
    "try_files",
    "upstream",
    "uwsgi_pass",
    "uwsgi_read_timeout",
];

const NEEDLESS: &[&str] = &[
    "aio",
    "charset",
    "client_body_buffer_size",
    "client_body_temp_path",
    "client_header_buffer_size",
    "default_type",
    "directio",
    "etag",
    "events",
    "gzip_buffers",
    "gzip_comp_level",
    "gzip_disable",
    "gzip_http_version",
    "gzip_min_length",
    "gzip_proxied",
    "gzip_static",
    "gzip_types",
    "gzip_vary",
    "http2",
    "http2_max_concurrent_streams",
    "keepalive_requests",
    "large_client_header_buffers",
    "limit_req_log_level",
    "load_module",
    "log_not_found",
    "max_ranges",
    "merge_slashes",
    "open_file_cache",
    "open_file_cache_errors",
    "open_file_cache_min_uses",
    "open_file_cache_valid",
    "output_buffers",
    "pcre_jit",
    "port_in_redirect",
    "postpone_output",
    "proxy_buffer_size",
    "proxy_buffering",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_connect_timeout",
    "proxy_headers_hash_bucket_size",
    "proxy_headers_hash_max_size",
    "proxy_http_version",
    "proxy_max_temp_file_size",
    "proxy_pass_header",
    "proxy_redirect",
    "proxy_send_timeout",
    "proxy_temp_path",
    "reset_timedout_connection",
    "root_directory",
    "sendfile",
    "sendfile_max_chunk",
    "server_name_in_redirect",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "server_tokens",
    "ssl_buffer_size",
    "ssl_dhparam",
    "ssl_ecdh_curve",
    "ssl_prefer_server_ciphers",
    "ssl_session_cache",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "tcp_nodelay",
    "tcp_nopush",
    "types_hash_bucket_size",
    "types_hash_max_size",
    "uwsgi_buffering",
    "uwsgi_param",
    "uwsgi_send_timeout",
    "variables_hash_bucket_size",
    "variables_hash_max_size",
    "worker_connections",
    "worker_cpu_affinity",
    "worker_processes",
    "worker_rlimit_nofile",
];

const INSTEAD: &[(&[&str], &str)] = &[
    (&["user"], "say user and group, if Portico is to change to another user"),
    (&["pid"], "say pidfile; systemd needs none"),
    (&["daemon"], "say daemon = true; systemd needs it off"),
    (
        &["access_log", "log_format"],
        "say access_logfile and access_logformat; the log has all requests or none",
    ),
    (&["error_log"], "say error_logfile"),
    (&["keepalive_timeout"], "say keep_alive; its default is as good"),
    (&["client_header_timeout"], "say head_timeout"),
    (&["client_body_timeout"], "say body_timeout"),
    (&["send_timeout"], "say write_timeout"),
    (&["lingering_close", "lingering_time", "lingering_timeout"], "left out, there is one way to close"),
    (&["ssl_protocols"], "left out, TLS 1.2 and 1.3 are spoken"),
    (&["ssl_ciphers", "ssl_conf_command"], "say ciphers, if its default is not enough"),
    (
        &["ssl_client_certificate", "ssl_trusted_certificate", "ssl_verify_client", "ssl_verify_depth"],
        "say ca_certs and cert_reqs; they hold for all hosts",
    ),
    (&["ssl_crl"], "say crl_file"),
    (
        &["ssl_stapling", "ssl_stapling_verify", "ssl_stapling_file"],
        "say ocsp_file; responses are not fetched",
    ),
    (&["ssl"], "say https:// in bind"),
    (
        &["set_real_ip_from", "real_ip_header", "real_ip_recursive"],
        "say forwarded_allow_ips with the proxies that are in front",
    ),
    (&["resolver", "resolver_timeout"], "left out, nothing is looked up"),
    (&["types"], "say mime = { extension = \"type\" } in the route with static"),
    (&["disable_symlinks"], "say symlinks in the route with static"),
    (
        &["limit_conn", "limit_conn_zone", "limit_conn_status", "limit_conn_log_level", "limit_zone"],
        "say connections_per_client, or concurrent in a route",
    ),
    (&["proxy_ignore_client_abort", "uwsgi_ignore_client_abort"], "say on_disconnect"),
    (
        &["proxy_set_header", "uwsgi_pass_request_headers"],
        "left out, the application has the request as it came; say request_headers in a route to change it",
    ),
    (&["stub_status"], "ask with `portico status PID`"),
    (
        &["autoindex_exact_size", "autoindex_localtime", "autoindex_format"],
        "left out, there is one form of it",
    ),
];

/// What decides about requests and is not in this version.
const NEVER: &[(&[&str], &str)] = &[
    (&["stream", "mail"], "only HTTP is spoken"),
    (&["fastcgi_pass", "grpc_pass", "memcached_pass"], "it is no WSGI application; keep nginx for it"),
    (&["auth_request"], "have the application judge, or use auth, allow and deny"),
    (&["map", "geo", "split_clients"], "routes have no variables"),
    (&["set"], "routes have no variables"),
    (&["satisfy"], "a route asks for both, an address that is allowed and a password"),
    (&["limit_except"], "write a route with methods of its own"),
    (&["sub_filter", "sub_filter_once", "sub_filter_types"], "responses are not rewritten"),
    (
        &["secure_link", "secure_link_md5", "secure_link_secret"],
        "have the application judge, and send X-Accel-Redirect",
    ),
    (&["valid_referers"], "a Referer is no proof of anything"),
    (&["mirror"], "requests are sent nowhere else"),
    (&["error_page_by_lua_block", "content_by_lua_block", "access_by_lua_block"], "there is no Lua"),
];

/// What restricts access: where such a directive becomes nothing, others reach what it keeps from them. So none of
/// them is lost with a mere note, see [`restricts`].
pub(super) const RESTRICTING: &[&str] = &[
    "access_by_lua",
    "access_by_lua_block",
    "access_by_lua_file",
    "allow",
    "auth_basic",
    "auth_digest",
    "auth_gss",
    "auth_jwt",
    "auth_ldap",
    "auth_oidc",
    "auth_pam",
    "auth_request",
    "deny",
    "disable_symlinks",
    "geo",
    "if",
    "internal",
    "js_access",
    "limit_conn",
    "limit_except",
    "limit_req",
    "limit_zone",
    "map",
    "modsecurity",
    "satisfy",
    "secure_link",
    "secure_link_md5",
    "secure_link_secret",
    "ssl_crl",
    "ssl_verify_client",
    "valid_referers",
];

/// Whether a directive restricts access, as it is written.
pub(super) fn restricts(directive: &NginxDirective) -> bool {
    let is_harmless = match directive.name.as_str() {
        "allow" | "satisfy" => directive.first() == "all",
        // Without a certificate a request is served all the same; who is kept out by an `if` is told of with it.
        "ssl_verify_client" => matches!(directive.first(), "off" | "optional" | "optional_no_ca"),
        _ => directive.first() == "off",
    };
    RESTRICTING.contains(&directive.name.as_str()) && !is_harmless
}

/// Whether a block keeps anybody from what it is for: by a directive that restricts access, or as it refuses all.
pub(super) fn is_guarded(block: &[NginxDirective]) -> bool {
    let refuses = |it: &NginxDirective| {
        it.name == "return" && it.first().parse::<u16>().is_ok_and(|status| (400..500).contains(&status))
    };
    block.iter().any(|it| restricts(it) || refuses(it))
}

/// What becomes of a directive.
pub(super) fn known(directive: &NginxDirective) -> KnownDirective {
    let name = directive.name.as_str();
    let find = |table: &[(&[&str], &'static str)]| {
        table.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| *why)
    };
    match name {
        "satisfy" if directive.first() == "all" => KnownDirective::Needless,
        "ssl_verify_client" | "disable_symlinks" | "auth_request" if directive.first() == "off" => {
            KnownDirective::Needless
        }
        "ssl_protocols"
            if directive.arguments.iter().all(|it| matches!(it.as_str(), "TLSv1.2" | "TLSv1.3")) =>
        {
            KnownDirective::Needless
        }
        "proxy_set_header" if is_usual_header(directive) => KnownDirective::Needless,
        "access_log" if directive.first() == "off" => KnownDirective::Needless,
        _ if ["proxy_cache", "uwsgi_cache", "proxy_no_cache"].iter().any(|start| name.starts_with(start)) => {
            KnownDirective::Instead("left out, there is no cache in this version")
        }
        _ if TAKEN.contains(&name) => KnownDirective::Taken,
        _ if NEEDLESS.contains(&name) => KnownDirective::Needless,
        _ => match (find(INSTEAD), find(NEVER)) {
            (Some(why), _) => KnownDirective::Instead(why),
            (_, Some(why)) => KnownDirective::Never(why),
            _ => KnownDirective::Not,
        },
    }
}

/// Headers by which a proxy tells of the client, who is here at first hand.
fn is_usual_header(directive: &NginxDirective) -> bool {
    let names =
        ["host", "x-real-ip", "upgrade", "connection", "accept-encoding", "early-data", "front-end-https"];
    let name = directive.first().to_ascii_lowercase();
    names.contains(&name.as_str()) || name.starts_with("x-forwarded-")
}
