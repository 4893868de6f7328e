/* SPDX-License-Identifier: Apache-2.0 */
/* service.h - a snapd to measure: its own, or one that runs already */
#ifndef QUICKTHAW_BENCH_SERVICE_H
#define QUICKTHAW_BENCH_SERVICE_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "bench/harness.h"
#include "common/http_client.h"

/** struct service - a snapd and a connection to it. */
struct service {
	pid_t pid; /**< 0: not ours */
	char dir[128];
	char socket_path[192];
	struct http_client *client;
	struct http_reply reply;
};

/** service_attach() - use a snapd that listens at @socket_path. Return: 0, or -errno explained on
 * stderr. */
int service_attach(struct service *s, const char *socket_path);
/**
 * service_start() - start a snapd of our own with its state in a new directory below @build_dir.
 * @bin_dir: where snapd and vmm are; @runtime_dir: bootstraps; @options: more of them for snapd,
 * ends with NULL; NULL: none
 * Return: 0 or -errno, explained on stderr.
 */
int service_start(struct service *s, const char *build_dir, const char *bin_dir,
		  const char *runtime_dir, const char *const *options);
/** service_stop() - end it (if it is ours) and remove its state. */
void service_stop(struct service *s);

/** service_deploy() - create a function from @dir and publish it, trained with @event. */
int service_deploy(struct service *s, const char *name, const char *dir, const char *event);
/** service_deploy_as() - the same with other settings, a JSON object. */
int service_deploy_as(struct service *s, const char *name, const char *dir, const char *event,
		      const char *settings);

/** struct invoke_sample - one invocation as the caller saw it. */
struct invoke_sample {
	double ms;	   /**< request sent to answer read */
	double run_ms;	   /**< inside the vmm */
	double restore_ms; /**< inside the vmm */
	double faults;
	double bytes_read;
	unsigned pid;	/**< of the instance */
	char start[24]; /**< how it came to be: "resident-restore", ... */
};

/**
 * service_invoke() - one invocation.
 * @start: warm, resident, cold, boot, or NULL for what snapd chooses
 * @keep: let the instance live on
 * Return: 0, or -errno explained on stderr (a function error is -EPROTO).
 */
int service_invoke(struct service *s, const char *name, const char *event, const char *start,
		   bool keep, struct invoke_sample *ret);

/**
 * service_settle() - wait until the node is idle: the instance before has ended, its shell was
 * replaced, and what it taught of the working set is written. So each start is measured alone;
 * twenty seconds at most.
 */
void service_settle(struct service *s);

/** service_get() - GET a JSON document; the caller's; NULL on errors. */
json_t *service_get(struct service *s, const char *path);

#endif
