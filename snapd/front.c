/* SPDX-License-Identifier: Apache-2.0 */
/* front.c - the doors that the settings ask for */
#include "snapd/front.h"

#include <errno.h>
#include <grp.h>
#include <string.h>

#include "common/log.h"
#include "common/util.h"
#include "snapd/access_keys.h"
#include "snapd/api.h"
#include "snapd/function_url.h"
#include "snapd/http_api.h"
#include "snapd/service_manager.h"
#include "snapd/url_config.h"
#include "snapd/worker.h"

/** struct front - @keys: the work's, between run and done. */
static struct {
	const char *keys_path;
	gid_t group;
	struct work reload;
	struct access_keys *keys;
	char error[ACCESS_KEYS_ERROR_MAX];
	bool reloading, again;
} front;

static gid_t find_group(const char *name)
{
	struct group *group = getgrnam(name);

	if (!group)
		die("--socket-group %s: there is no such group", name);
	return group->gr_gid;
}

void front_check(const struct options *o)
{
	struct access_keys *keys;

	front.group = o->socket_group ? find_group(o->socket_group) : (gid_t)-1;
	front.keys_path = *o->keys ? o->keys : NULL;
	if (o->listen.count && !front.keys_path)
		die("--listen %s: whoever reaches a TCP port could run code here: say with --keys "
		    "FILE who may",
		    o->listen.items[0]);
	if (!front.keys_path)
		return;
	keys = access_keys_read(front.keys_path, front.error);
	if (!keys)
		die("--keys %s", front.error);
	http_set_keys(keys);
}

/** The one that a service manager holds for us, or one of our own. */
static void open_socket(const struct options *o)
{
	int fd = service_manager_take_fd(SERVICE_SOCKET_NAME);
	int ret = fd >= 0 ? http_listen_fd(fd, api_route)
			  : http_listen_unix(o->socket, o->socket_mode, front.group, api_route);

	if (ret == -EADDRINUSE)
		die("%s: another snapd serves there: stop it, or choose another with --socket",
		    o->socket);
	if (ret)
		die("%s: %s: choose another place with --socket", o->socket, strerror(-ret));
	log_info("serving on %s", o->socket);
}

static void open_addresses(const char *option, const struct option_list *list, bool url,
			   http_router router)
{
	for (unsigned i = 0; i < list->count; i++) {
		unsigned port = 0;
		int ret = http_listen_tcp(list->items[i], url, router, &port);

		if (ret == -EINVAL)
			die("--%s %s: give HOST:PORT or [ADDRESS]:PORT", option, list->items[i]);
		if (ret)
			die("--%s %s: %s", option, list->items[i], strerror(-ret));
		/* Which port it is, where any was asked for. */
		log_info("serving %son %.*s:%u", url ? "function URLs " : "",
			 (int)(strrchr(list->items[i], ':') - list->items[i]), list->items[i],
			 port);
	}
}

void front_open(const struct options *o)
{
	const struct http_params params = {
		.connections_max = o->connections,
		.peer_connections_max = o->connections_per_peer,
		.client_timeout_s = o->client_timeout_s,
		.client_rate_bytes = o->client_rate_kib << 10,
		.body_max = api_body_max,
		.unsigned_status = o->unsigned_status,
	};

	http_init(&params);
	open_socket(o);
	open_addresses("listen", &o->listen, false, api_route);
	open_addresses("url-listen", &o->url_listen, true, function_url_route);
	if (o->url_listen.count)
		url_config_serve_at(o->url_listen.items[0]);
}

/* ---- new keys -------------------------------------------------------------------------------- */

static void reload_run(struct work *work)
{
	(void)work;
	front.keys = access_keys_read(front.keys_path, front.error);
}

static void reload_done(struct work *work)
{
	(void)work;
	front.reloading = false;
	if (front.keys) {
		log_info("keys: %u in %s", access_keys_count(front.keys), front.keys_path);
		http_set_keys(front.keys);
	} else {
		log_error("keys: %s: those read before stay in force", front.error);
	}
	if (front.again)
		front_reload();
}

void front_reload(void)
{
	front.again = front.reloading;
	if (!front.keys_path || front.reloading)
		return;
	front.reloading = true;
	front.reload = (struct work){.run = reload_run, .done = reload_done};
	worker_queue(&front.reload);
}
