/* SPDX-License-Identifier: Apache-2.0 */
/* sock_name.c - addresses of sockets: in user memory, and what is bound where */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>

#include "common/util.h"
#include "vmm/process/mm.h"
#include "vmm/process/proc.h"
#include "vmm/process/sock_internal.h"
#include "vmm/process/vfs_node.h"

enum { PORT_FIRST = 32768, PORT_END = 61000 };

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};
static const uint8_t any_v6[16];
static const uint8_t loopback_v6[16] = {[15] = 1};

static bool is_v4(const struct sock_addr *a)
{
	return !memcmp(a->ip, mapped_prefix, sizeof(mapped_prefix));
}

static bool is_any(const struct sock_addr *a)
{
	if (is_v4(a))
		return !memcmp(a->ip + 12, any_v6, 4);
	return !memcmp(a->ip, any_v6, 16);
}

static bool is_loopback(const struct sock_addr *a)
{
	return is_v4(a) ? a->ip[12] == 127 : !memcmp(a->ip, loopback_v6, 16);
}

bool sock_addr_is_local(const struct sock_addr *a)
{
	return a->family == AF_UNIX || is_any(a) || is_loopback(a);
}

/* ---- user memory ---- */

static int unix_get(const struct sockaddr_un *un, size_t bytes, struct sock_addr *ret)
{
	size_t n = bytes - offsetof(struct sockaddr_un, sun_path);

	ret->family = AF_UNIX;
	if (n > sizeof(ret->path))
		return -EINVAL;
	/* A path ends at its NUL; an abstract name has the length that it has. */
	if (n && un->sun_path[0])
		n = strnlen(un->sun_path, n);
	memcpy(ret->path, un->sun_path, n);
	ret->path_bytes = (uint8_t)n;
	return 0;
}

static void v4_get(const struct sockaddr_in *in, struct sock_addr *ret)
{
	ret->family = AF_INET6;
	ret->port = ntohs(in->sin_port);
	memcpy(ret->ip, mapped_prefix, sizeof(mapped_prefix));
	memcpy(ret->ip + 12, &in->sin_addr, 4);
}

int sock_addr_get(struct proc *p, int domain, uint64_t addr, uint64_t bytes, struct sock_addr *ret)
{
	union {
		struct sockaddr_storage storage;
		struct sockaddr_un un;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} u;
	int family;

	memset(&u, 0, sizeof(u));
	memset(ret, 0, sizeof(*ret));
	if (bytes > sizeof(u) || bytes < sizeof(u.storage.ss_family))
		return -EINVAL;
	if (mm_copy_in(p, &u, addr, bytes))
		return -EFAULT;
	family = u.storage.ss_family;
	if (family == AF_UNSPEC) {
		ret->family = AF_UNSPEC;
		return 0;
	}
	if (domain == AF_UNIX && family == AF_UNIX)
		return unix_get(&u.un, bytes, ret);
	if (domain == AF_INET && family == AF_INET && bytes >= sizeof(u.in)) {
		v4_get(&u.in, ret);
		return 0;
	}
	if (domain == AF_INET6 && family == AF_INET6 && bytes >= sizeof(u.in6) - 4) {
		ret->family = AF_INET6;
		ret->port = ntohs(u.in6.sin6_port);
		memcpy(ret->ip, &u.in6.sin6_addr, sizeof(ret->ip));
		return 0;
	}
	return family == domain ? -EINVAL : -EAFNOSUPPORT;
}

size_t sock_addr_pack(int domain, const struct sock_addr *a, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (domain == AF_UNIX) {
		struct sockaddr_un *un = (struct sockaddr_un *)ret;
		size_t n = a->path_bytes;

		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, a->path, n);
		if (n && a->path[0] && n < sizeof(un->sun_path))
			n++; /* the NUL counts */
		return offsetof(struct sockaddr_un, sun_path) + n;
	}
	if (domain == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)ret;

		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip + 12, 4);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	memcpy(&in6->sin6_addr, a->ip, sizeof(a->ip));
	return sizeof(*in6);
}

int sock_addr_put(struct proc *p, int domain, const struct sock_addr *a, uint64_t addr,
		  uint64_t len_addr)
{
	struct sockaddr_storage packed;
	size_t n = sock_addr_pack(domain, a, &packed);
	int32_t room, full = (int32_t)n;

	if (!addr)
		return 0;
	if (mm_copy_in(p, &room, len_addr, sizeof(room)))
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	if (mm_copy_out(p, addr, &packed, MIN((size_t)room, n)) ||
	    mm_copy_out(p, len_addr, &full, sizeof(full)))
		return -EFAULT;
	return 0;
}

/* ---- names in use ---- */

static bool same_name(const struct sock_addr *a, const struct sock_addr *b)
{
	return a->path_bytes == b->path_bytes && !memcmp(a->path, b->path, a->path_bytes);
}

static int option_value(const struct sock *s, int level, int name)
{
	for (unsigned i = 0; i < s->option_count; i++)
		if (s->options[i].level == level && s->options[i].name == name)
			return s->options[i].value;
	return 0;
}

static bool is_v6_only(const struct sock *s)
{
	return s->domain == AF_INET6 && option_value(s, IPPROTO_IPV6, IPV6_V6ONLY);
}

/** Does @s, by what it is bound to, hear what is sent to @to? */
static bool hears(const struct sock *s, const struct sock_addr *to)
{
	if (s->local.port != to->port)
		return false;
	/* "Any" as a destination is this host: its loopback. */
	if (is_any(&s->local))
		return is_v4(&s->local) ? is_v4(to) : !is_v4(to) || !is_v6_only(s);
	if (is_any(to))
		return is_v4(to) == is_v4(&s->local);
	return !memcmp(s->local.ip, to->ip, sizeof(to->ip));
}

static bool overlaps(const struct sock *s, const struct sock *other)
{
	return hears(other, &s->local) || hears(s, &other->local);
}

static bool may_share(const struct sock *a, const struct sock *b)
{
	if (option_value(a, SOL_SOCKET, SO_REUSEPORT) && option_value(b, SOL_SOCKET, SO_REUSEPORT))
		return true;
	return option_value(a, SOL_SOCKET, SO_REUSEADDR) &&
	       option_value(b, SOL_SOCKET, SO_REUSEADDR) && b->state != SOCK_LISTENING;
}

static bool name_is_taken(struct proc *p, const struct sock *s)
{
	if (s->domain != AF_UNIX && sock_is_stream(s) && service_by_port(p, s->local.port))
		return true;
	for (const struct sock *q = p->net->first; q; q = q->next) {
		if (q == s || !q->bound || q->type != s->type || q->inode)
			continue;
		if ((q->domain == AF_UNIX) != (s->domain == AF_UNIX))
			continue;
		if (s->domain == AF_UNIX ? same_name(&q->local, &s->local)
					 : overlaps(s, q) && !may_share(s, q))
			return true;
	}
	return false;
}

static int take_any_port(struct proc *p, struct sock *s)
{
	struct net *net = p->net;

	for (int tries = PORT_FIRST; tries < PORT_END; tries++) {
		s->local.port = net->next_port++;
		if (net->next_port >= PORT_END)
			net->next_port = PORT_FIRST;
		if (!name_is_taken(p, s))
			return 0;
	}
	return -EADDRINUSE;
}

/** A name in the file system: a node in /tmp, which stays until somebody unlinks it. */
static int bind_path(struct proc *p, struct sock *s, const struct sock_addr *a)
{
	char path[SOCK_PATH_MAX + 1] = "";
	CLEANUP_NODE struct vfs_node n;
	struct tmpfs_inode *inode;
	int ret;

	vfs_node_init(&n);
	memcpy(path, a->path, a->path_bytes);
	ret = vfs_walk(p, AT_FDCWD, path, VFS_WALK_CREATE, &n);
	if (ret)
		return ret;
	if (!n.missing)
		return -EADDRINUSE;
	if (!n.parent)
		return -EROFS;
	ret = tmpfs_create(p, n.parent, n.name, S_IFSOCK | (0777 & ~p->vfs->umask), NULL, &inode);
	if (ret)
		return ret;
	s->local = *a;
	s->inode = inode->ino;
	s->bound = true;
	return 0;
}

static int bind_name(struct proc *p, struct sock *s, const struct sock_addr *a)
{
	int ret = 0;

	s->local = *a;
	if (s->domain == AF_UNIX && !a->path_bytes) {
		/* Autobind: an abstract name of five hexadecimal digits, unix(7). */
		static const char digits[] = "0123456789abcdef";

		s->local.path_bytes = 6;
		for (int i = 0; i < 5; i++)
			s->local.path[1 + i] = digits[s->id >> (16 - 4 * i) & 15];
	}
	if (s->domain != AF_UNIX && !a->port)
		ret = take_any_port(p, s);
	else if (name_is_taken(p, s))
		ret = -EADDRINUSE;
	if (ret)
		memset(&s->local, 0, sizeof(s->local));
	else
		s->bound = true;
	return ret;
}

int sock_bind(struct proc *p, struct sock *s, const struct sock_addr *a)
{
	struct sock_addr any = *a;

	if (s->bound || s->state != SOCK_UNCONNECTED)
		return -EINVAL;
	if (a->family == AF_UNSPEC) {
		/* bind(2): AF_INET sockets take AF_UNSPEC for INADDR_ANY. */
		if (s->domain != AF_INET)
			return -EINVAL;
		any.family = AF_INET6;
		memcpy(any.ip, mapped_prefix, sizeof(mapped_prefix));
	}
	if (!sock_addr_is_local(&any))
		return -EADDRNOTAVAIL;
	if (sock_has_path(a))
		return bind_path(p, s, a);
	return bind_name(p, s, &any);
}

int sock_autobind(struct proc *p, struct sock *s, const struct sock_addr *to)
{
	struct sock_addr local = {.family = AF_INET6};
	int ret;

	if (s->domain == AF_UNIX)
		return 0; /* may stay without a name */
	if (!s->bound) {
		memcpy(local.ip, to->ip, sizeof(local.ip));
		if (is_any(to) && is_v4(to))
			local.ip[12] = 127, local.ip[15] = 1;
		else if (is_any(to))
			memcpy(local.ip, loopback_v6, sizeof(local.ip));
		ret = bind_name(p, s, &local);
		if (ret)
			return ret;
	} else if (is_any(&s->local) && sock_has_ends(s)) {
		uint16_t port = s->local.port;

		s->local = *to;
		s->local.port = port;
	}
	return 0;
}

/** The socket behind a name in the file system. */
static int inode_of_path(struct proc *p, const struct sock_addr *to, uint64_t *ret)
{
	char path[SOCK_PATH_MAX + 1] = "";
	CLEANUP_NODE struct vfs_node n;
	int err;

	vfs_node_init(&n);
	memcpy(path, to->path, to->path_bytes);
	err = vfs_walk(p, AT_FDCWD, path, VFS_WALK_FOLLOW, &n);
	if (err)
		return err;
	if (!n.inode || !S_ISSOCK(n.inode->mode))
		return -ECONNREFUSED;
	*ret = n.inode->ino;
	return 0;
}

static int find_unix(struct proc *p, const struct sock *from, const struct sock_addr *to,
		     struct sock **ret)
{
	uint64_t inode = 0;
	int err = sock_has_path(to) ? inode_of_path(p, to, &inode) : 0;

	if (err)
		return err;
	for (struct sock *q = p->net->first; q; q = q->next) {
		if (q->domain != AF_UNIX || !q->bound || q->inode != inode ||
		    (!inode && !same_name(&q->local, to)))
			continue;
		if (q->type != from->type && inode)
			return -EPROTOTYPE;
		if (q->type != from->type)
			continue;
		*ret = q;
		return 0;
	}
	return -ECONNREFUSED;
}

int sock_find(struct proc *p, const struct sock *from, const struct sock_addr *to,
	      struct sock **ret)
{
	struct sock *best = NULL;

	*ret = NULL;
	if (from->domain == AF_UNIX)
		return find_unix(p, from, to, ret);
	for (struct sock *q = p->net->first; q; q = q->next) {
		if (!q->bound || q->type != from->type || q->domain == AF_UNIX || !hears(q, to) ||
		    (sock_is_stream(q) && q->state != SOCK_LISTENING))
			continue;
		/* A connected datagram socket hears its peer only. */
		if (!sock_has_ends(q) && q->state == SOCK_CONNECTED &&
		    q->remote.port != from->local.port)
			continue;
		/* The exact address before "any". */
		if (!best || is_any(&best->local))
			best = q;
	}
	*ret = best;
	return 0;
}
