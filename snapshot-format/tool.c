/* SPDX-License-Identifier: Apache-2.0 */
/* tool.c - `snapshot`: look at snapshot files */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/version.h"
#include "snapshot-format/tool.h"

static const struct subcommand {
	const char *name;
	int files;
	const char *usage;
	const char *help;
} subcommands[] = {
	{"info", 1, "snapshot info [--json] FILE",
	 "Print what the header and the metadata say: guest, required CPU features, sections, "
	 "sizes;\nof a diff, the files that it is based on."},
	{"verify", 1, "snapshot verify [--json] FILE",
	 "Check every checksum and decompress every chunk, of a diff also those of its bases. "
	 "Exit\n"
	 "status 1 when a file is damaged."},
	{"pages", 1, "snapshot pages [--json] FILE",
	 "Draw guest memory, one character for a range of pages: which are hot, cold, in a base "
	 "or\n"
	 "zero.\n"
	 "With --json, list the page numbers of every chunk."},
	{"diff", 2, "snapshot diff [--json] FILE FILE",
	 "Compare two snapshots page by page. Exit status 1 when their memory or state differ."},
	{"flatten", 2, "snapshot flatten [--json] IN OUT",
	 "Write the diff IN and the files that it is based on as one file OUT, which needs none "
	 "of\n"
	 "them. Working set and metadata stay, and diffs on IN can be used with OUT in its place. "
	 "OUT\n"
	 "is whole or not there; if it was there, it is replaced. IN is not changed."},
};

static void print_usage(FILE *out)
{
	fputs("usage: snapshot COMMAND [--json] FILE...\n\n"
	      "Look at snapshot files. A diff is looked at together with its bases, which are in "
	      "its\n"
	      "directory.\n\n",
	      out);
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		fprintf(out, "  %s\n", subcommands[i].usage);
	fputs("\n  --json  for programs\n  --help  after a command: what it does\n"
	      "  --version  which Quickthaw this is\n\n"
	      "Exit status: 0 fine, 1 damaged, foreign or different, 2 usage or cannot be read.\n",
	      out);
}

static const struct subcommand *find_subcommand(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(subcommands); i++)
		if (!strcmp(name, subcommands[i].name))
			return &subcommands[i];
	return NULL;
}

int tool_print_json(json_t *json)
{
	int ret = json ? json_dumpf(json, stdout, JSON_INDENT(2)) : -1;

	putchar('\n');
	json_decref(json);
	if (!ret && fflush(stdout) == 0)
		return TOOL_OK;
	fputs("snapshot: cannot write the result\n", stderr);
	return TOOL_USAGE;
}

struct tool_pages tool_count_pages(const struct snapshot_reader *r)
{
	struct tool_pages n = {0};

	for (uint32_t page = 0; page < r->header.template_pages; page++) {
		uint32_t chunk = snapshot_reader_page_chunk(r, page);

		n.zero += chunk == SNAPSHOT_PAGE_ZERO;
		n.own += chunk < r->header.chunks;
	}
	n.base = r->header.template_pages - n.zero - n.own;
	return n;
}

static uint64_t progress_start_ns, progress_shown_ns;

void tool_progress(const char *what, const char *path, uint64_t done, uint64_t total)
{
	uint64_t now = clock_mono_ns();

	if (!progress_start_ns)
		progress_start_ns = now;
	if (now - progress_start_ns < NSEC_PER_SEC || now - progress_shown_ns < NSEC_PER_SEC / 10 ||
	    !isatty(STDERR_FILENO))
		return;
	progress_shown_ns = now;
	fprintf(stderr, "\r%s %s: %u %%\033[K", what, path,
		(unsigned)(total ? 100 * done / total : 0));
}

void tool_progress_end(void)
{
	if (progress_shown_ns)
		fputs("\r\033[K", stderr);
}

int tool_open(struct tool_file *f, const char *path, bool json)
{
	struct snapshot_error err = {""};
	int ret;

	f->path = path;
	ret = snapshot_reader_open(AT_FDCWD, path, path, &f->reader, &err);
	if (!ret)
		return TOOL_OK;
	fprintf(stderr, "snapshot: %s\n", err.text);
	if (json)
		tool_print_json(
			json_pack("{s:s, s:b, s:s}", "file", path, "ok", 0, "error", err.text));
	return ret == -EBADMSG || ret == -ENOTSUP || ret == -EINVAL || ret == -ESTALE ? TOOL_BAD
										      : TOOL_USAGE;
}

void tool_close(struct tool_file *f)
{
	snapshot_reader_free(f->reader);
}

static int run(const struct subcommand *c, char **paths, bool json)
{
	struct tool_file a = {0}, b = {0};
	int ret = tool_open(&a, paths[0], json);

	if (!ret && !strcmp(c->name, "diff"))
		ret = tool_open(&b, paths[1], json);
	if (!ret && !strcmp(c->name, "info"))
		ret = tool_info(&a, json);
	else if (!ret && !strcmp(c->name, "verify"))
		ret = tool_verify(&a, json);
	else if (!ret && !strcmp(c->name, "pages"))
		ret = tool_pages(&a, json);
	else if (!ret && !strcmp(c->name, "flatten"))
		ret = tool_flatten(&a, paths[1], json);
	else if (!ret)
		ret = tool_diff(&a, &b, json);
	tool_close(&b);
	tool_close(&a);
	return ret;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	const struct subcommand *c = argc > 1 ? find_subcommand(argv[1]) : NULL;
	bool json = false;
	int option;

	if (version_asked("snapshot", argc, argv))
		return TOOL_OK;
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		print_usage(stdout);
		return TOOL_OK;
	}
	if (!c) {
		if (argc > 1)
			fprintf(stderr, "snapshot: there is no command '%s'\n", argv[1]);
		print_usage(stderr);
		return TOOL_USAGE;
	}
	while ((option = getopt_long(argc - 1, argv + 1, "jh", options, NULL)) != -1) {
		if (option == 'h') {
			printf("usage: %s\n\n%s\n\n  --json  for programs\n", c->usage, c->help);
			return TOOL_OK;
		}
		if (option != 'j')
			return TOOL_USAGE;
		json = true;
	}
	if (argc - 1 - optind != c->files) {
		fprintf(stderr, "usage: %s\n", c->usage);
		return TOOL_USAGE;
	}
	return run(c, argv + 1 + optind, json);
}
