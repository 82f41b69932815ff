// SPDX-License-Identifier: GPL-2.0-only
/*
 * The init program of the bench: load a driver, use it, unload it
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define STEP_SECONDS	60	/* guest time */
#define SETTLE_MS	20	/* for reports that an interrupt brings */

static char *node;		/* of the driver that is loaded, or NULL */
static char **old_nodes;	/* hundreds, with the ptys */
static int nold_nodes;
static unsigned int seed = 1;	/* of the next message */

/*
 * Do a step in a process of its own: it may hang in the kernel, where nothing
 * can end it. False when it does; this machine is then of no more use.
 */
bool in_child(step_fn step, const struct run *run, int *ret, char *trouble)
{
	struct pollfd wait = { .events = POLLIN };
	int pipes[2];
	ssize_t len;
	pid_t pid;
	int status;

	trouble[0] = '\0';
	/* The child draws its messages from here on */
	seed += 0x1000;
	if (pipe(pipes))
		abort();
	pid = fork();
	if (pid < 0)
		abort();
	if (!pid) {
		close(pipes[0]);
		*ret = step(run, trouble, TROUBLE_SIZE);
		len = write(pipes[1], trouble, strlen(trouble) + 1);
		_exit(len < 0 ? EIO : -*ret);
	}

	close(pipes[1]);
	wait.fd = pipes[0];
	if (poll(&wait, 1, STEP_SECONDS * 1000) <= 0) {
		snprintf(trouble, TROUBLE_SIZE, "hangs for %d seconds",
			 STEP_SECONDS);
		put("/proc/sysrq-trigger", "w");	/* where does it hang? */
		*ret = -ETIMEDOUT;
		return false;
	}

	len = read(pipes[0], trouble, TROUBLE_SIZE - 1);
	trouble[len > 0 ? len : 0] = '\0';
	close(pipes[0]);
	waitpid(pid, &status, 0);
	*ret = -WEXITSTATUS(status);
	if (!WIFEXITED(status)) {
		snprintf(trouble, TROUBLE_SIZE, "killed by signal %d",
			 WTERMSIG(status));
		*ret = -EINTR;
	}
	sleep_ms(SETTLE_MS);
	return true;
}

/* --- Modules ------------------------------------------------------------ */

/* The name of the module in a file: without folder and .ko, - is _ */
char *module_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *name = format("%s", slash ? slash + 1 : path);
	char *c;

	name[strcspn(name, ".")] = '\0';
	for (c = name; *c; c++) {
		if (*c == '-')
			*c = '_';
	}

	return name;
}

/* Returns 0 or -errno */
int insert_module(const char *path, const char *parameters)
{
	int fd = open(path, O_RDONLY);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (syscall(SYS_finit_module, fd, parameters, 0))
		ret = -errno;
	close(fd);
	return ret;
}

static bool is_loaded(const char *path)
{
	return !access(format("/sys/module/%s", module_name(path)), F_OK);
}

/* One module may need another: those that fail are tried again */
int load(const struct run *run, char *trouble, size_t size)
{
	bool progress;
	int ret;
	int i;

	do {
		progress = false;
		ret = 0;
		for (i = 0; i < run->nmodules; i++) {
			int err;

			if (is_loaded(run->modules[i]))
				continue;
			err = insert_module(run->modules[i], "");
			if (!err) {
				progress = true;
				continue;
			}
			ret = err;
			snprintf(trouble, size, "%s: %s", run->modules[i],
				 strerror(-err));
		}
	} while (ret && progress);

	if (!ret)
		trouble[0] = '\0';
	return ret;
}

int unload(const struct run *run, char *trouble, size_t size)
{
	bool progress;
	int ret;
	int i;

	do {
		progress = false;
		ret = 0;
		for (i = run->nmodules - 1; i >= 0; i--) {
			char *name = module_name(run->modules[i]);

			if (!is_loaded(name))
				continue;
			if (!syscall(SYS_delete_module, name, O_NONBLOCK)) {
				progress = true;
				continue;
			}
			ret = -errno;
			snprintf(trouble, size, "%s: %s", name,
				 strerror(errno));
		}
	} while (ret && progress);

	if (!ret)
		trouble[0] = '\0';
	return ret;
}

/* Has a folder of a driver in sysfs a link to a device? */
static bool has_device(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)))
		found = entry->d_type == DT_LNK &&
			strcmp(entry->d_name, "module");
	if (dir)
		closedir(dir);
	return found;
}

/* Is a device bound to any driver of any module of the run? */
bool driver_bound(const struct run *run)
{
	bool bound = false;
	int i;

	for (i = 0; i < run->nmodules && !bound; i++) {
		char *path = format("/sys/module/%s/drivers",
				    module_name(run->modules[i]));
		DIR *dir = opendir(path);
		struct dirent *entry;

		while (dir && !bound && (entry = readdir(dir)))
			bound = entry->d_name[0] != '.' &&
				has_device(format("%s/%s", path,
						  entry->d_name));
		if (dir)
			closedir(dir);
	}

	return bound;
}

/* --- Device nodes ------------------------------------------------------- */

typedef bool (*visit_fn)(const char *name);

static bool visit_nodes(visit_fn visit)
{
	DIR *dir = opendir("/dev");
	struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir)))
		found = entry->d_type == DT_CHR && visit(entry->d_name);
	if (dir)
		closedir(dir);
	return found;
}

static bool note_node(const char *name)
{
	old_nodes = realloc(old_nodes, (nold_nodes + 1) * sizeof(*old_nodes));
	if (!old_nodes)
		abort();
	old_nodes[nold_nodes++] = format("%s", name);
	return false;
}

static bool is_new_node(const char *name)
{
	int i;

	for (i = 0; i < nold_nodes; i++) {
		if (!strcmp(old_nodes[i], name))
			return false;
	}

	node = format("/dev/%s", name);
	return true;
}

/* Remember what is in /dev before any driver is loaded */
void note_nodes(void)
{
	visit_nodes(note_node);
}

/* Which device node has the driver that was just loaded? */
void find_node(const struct run *run)
{
	node = run->node;
	if (!node)
		visit_nodes(is_new_node);
}

/* Is there anything to use the device by? */
bool can_transfer(const struct run *run)
{
	return run->nprograms || node;
}

/* --- Messages ----------------------------------------------------------- */

static void fill(unsigned char *buf, size_t len)
{
	unsigned int x = seed++ * 2654435761u;
	size_t i;

	for (i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		buf[i] = x;
	}
}

static int compare(const unsigned char *in, const unsigned char *out,
		   size_t len, char *trouble, size_t size)
{
	size_t first = 0;
	size_t bad = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		if (in[i] == out[i])
			continue;
		if (!bad++)
			first = i;
	}

	if (!bad)
		return 0;
	snprintf(trouble, size,
		 DATA "%zu of %zu bytes are wrong, from byte %zu on", bad, len,
		 first);
	return -EBADMSG;
}

/* Write a message, read it back, compare */
static int send_message(size_t len, char *trouble, size_t size)
{
	static unsigned char out[MAX_MESSAGE];
	static unsigned char in[MAX_MESSAGE];
	const char *what = "open";
	ssize_t done;
	int ret = 0;
	size_t i;
	int fd;

	fill(out, len);
	for (i = 0; i < len; i++)
		in[i] = ~out[i];

	fd = open(node, O_RDWR);
	done = fd;
	if (fd < 0)
		goto out;

	what = "write";
	done = write(fd, out, len);
	if (done == (ssize_t)len) {
		what = "read";
		done = pread(fd, in, len, 0);
		if (done < 0 && errno == ESPIPE)
			done = read(fd, in, len);
	}

out:
	if (done < 0) {
		ret = -errno;
		snprintf(trouble, size, "%s of %zu bytes: %s: %s", what, len,
			 node, strerror(errno));
	} else if (done != (ssize_t)len) {
		ret = -EPROTO;
		snprintf(trouble, size, "%s: %zd of %zu bytes", what, done,
			 len);
	} else {
		ret = compare(in, out, len, trouble, size);
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

/*
 * Let the user's own program drive the device; what it prints is passed on. It
 * tells wrong data from an error by a last line "data: ...".
 */
static int run_program(const char *program, char *trouble, size_t size)
{
	char line[TROUBLE_SIZE] = "";
	int pipes[2];
	FILE *output;
	int status;
	pid_t pid;

	if (pipe(pipes))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		dup2(pipes[1], STDOUT_FILENO);
		dup2(pipes[1], STDERR_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		execl(program, program, node, NULL);
		dprintf(STDERR_FILENO, "%s: %s\n", program, strerror(errno));
		_exit(127);
	}

	close(pipes[1]);
	output = fdopen(pipes[0], "r");
	while (output && fgets(line, sizeof(line), output)) {
		line[strcspn(line, "\n")] = '\0';
		say("  # program: %s", line);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;

	if (!strncmp(line, DATA, strlen(DATA)))
		snprintf(trouble, size, "%s", line);
	else if (WIFEXITED(status))
		snprintf(trouble, size, "the program exits with %d",
			 WEXITSTATUS(status));
	else
		snprintf(trouble, size, "the program dies of signal %d",
			 WTERMSIG(status));
	return -EIO;
}

int transfer(const struct run *run, char *trouble, size_t size)
{
	int ret = 0;
	int round;
	int i;

	for (i = 0; i < run->nprograms && !ret; i++)
		ret = run_program(run->programs[i], trouble, size);
	if (run->nprograms)
		return ret;

	for (round = 0; round < run->rounds && !ret; round++) {
		for (i = 0; i < run->nsizes && !ret; i++)
			ret = send_message(run->sizes[i], trouble, size);
	}

	return ret;
}
