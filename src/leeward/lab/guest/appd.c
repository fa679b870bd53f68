/*
 * appd: the application inside a lab guest. It writes numbered records that can be proven whole after a crash, and
 * tells over HTTP how long the disk took to make each of them durable.
 *
 * usage: [SCREEN=/dev/tty1] appd INTERVAL_MS PORT FILE [FILE_ON_SECOND_DISK]
 *
 * Record n (1, 2, 3, ...) is 64 bytes of text: "%012llu %020llu", number and UTC nanoseconds, padded with '.', ended
 * by '\n'. It lies at byte 64 * ((n - 1) % CAPACITY), so the file grows to 64 * CAPACITY bytes and is then reused as
 * a ring. Record n + 1 is not written before record n is durable on every disk, first disk first. The reader is
 * leeward.lab.guest.sequence; change both together.
 *
 * On SCREEN, if it is given, the status is told to who looks at it (or takes a picture of it), in rows 5 to 8.
 *
 * GET /            status as JSON
 * GET /reset       status, then forget the latencies and the error
 * GET /burn?N&R    write N MB (10^6 bytes) of incompressible data to FILE.burn, durable, at R MB/s (0: unpaced)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RECORD 64
#define CAPACITY 262144ULL /* 16 MiB: 87 minutes of history at 20 ms */
#define MEGABYTE 1000000

/* Latencies in microseconds, in buckets no wider than 1/32 of their value: any length of run fits in 4 KB. */
#define FINE 32
#define BUCKETS (32 * FINE)

struct latency {
	uint64_t count, max;
	uint32_t bucket[BUCKETS];
};

struct disk {
	const char *path;
	int fd;
	uint64_t boot_seq; /* last whole record found at start */
	int boot_intact;   /* every record before it was there and in its place */
	struct latency sync;
};

static struct disk disks[2];
static int disk_count;
static uint64_t seq;
static int error_number;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000ULL), (long)(ns % 1000000000ULL) };
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static unsigned bucket_of(uint64_t us)
{
	unsigned shift = 0;
	while ((us >> shift) >= 2 * FINE)
		shift++;
	unsigned index = shift * FINE + (unsigned)(us >> shift);
	return index < BUCKETS ? index : BUCKETS - 1;
}

static uint64_t bucket_top(unsigned index)
{
	unsigned shift = index < 2 * FINE ? 0 : index / FINE - 1;
	return ((uint64_t)(index - shift * FINE + 1) << shift) - 1;
}

static uint64_t quantile(const struct latency *l, double q)
{
	uint64_t seen = 0, wanted = (uint64_t)(q * (double)l->count);
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += l->bucket[i];
		if (seen > wanted)
			return bucket_top(i) < l->max ? bucket_top(i) : l->max;
	}
	return l->max;
}

static void fail(int number)
{
	pthread_mutex_lock(&lock);
	error_number = number;
	pthread_mutex_unlock(&lock);
}

/* --- the numbered records ------------------------------------------------------------------------------ */

static off_t place(uint64_t n)
{
	return (off_t)((n - 1) % CAPACITY * RECORD);
}

static void format_record(char *record, uint64_t n)
{
	char text[RECORD + 1];
	int used = snprintf(text, sizeof text, "%012llu %020llu", (unsigned long long)n,
			    (unsigned long long)now_ns(CLOCK_REALTIME));
	memset(record, '.', RECORD - 1);
	memcpy(record, text, (size_t)used);
	record[RECORD - 1] = '\n';
}

/* The number in a record, 0 when it is not whole. */
static uint64_t parse_record(const char *record)
{
	if (record[RECORD - 1] != '\n' || record[12] != ' ')
		return 0;
	return strtoull(record, NULL, 10);
}

/* Find the last record, check that all before it are in their places. A torn tail is overwritten by the next one. */
static void inspect(struct disk *d)
{
	struct stat st;
	if (fstat(d->fd, &st))
		return;
	uint64_t slots = (uint64_t)st.st_size / RECORD, last = 0;
	uint64_t *number = calloc(slots ? slots : 1, sizeof *number);
	char chunk[RECORD * 1024];
	for (uint64_t i = 0; i < slots;) {
		ssize_t got = pread(d->fd, chunk, sizeof chunk, (off_t)(i * RECORD));
		if (got < RECORD)
			break;
		for (ssize_t k = 0; k + RECORD <= got; k += RECORD, i++) {
			number[i] = parse_record(chunk + k);
			if (number[i] > last)
				last = number[i];
		}
	}
	d->boot_intact = 1;
	uint64_t first = last > CAPACITY ? last - CAPACITY + 1 : 1;
	/* Once the ring is reused, the oldest record may have been torn by the write that was to replace it. */
	if (last > CAPACITY || (last == CAPACITY && slots == CAPACITY))
		first++;
	for (uint64_t n = first; n <= last; n++)
		if (number[(n - 1) % CAPACITY] != n)
			d->boot_intact = 0;
	d->boot_seq = last;
	free(number);
}

static void open_disk(const char *path)
{
	struct disk *d = &disks[disk_count++];
	d->path = path;
	d->fd = open(path, O_RDWR | O_CREAT, 0644);
	if (d->fd < 0) {
		error_number = errno;
		perror(path);
	} else {
		inspect(d);
	}
}

static void write_durably(struct disk *d, const char *record, uint64_t n)
{
	uint64_t start = now_ns(CLOCK_MONOTONIC);
	errno = 0;
	if (pwrite(d->fd, record, RECORD, place(n)) != RECORD || fdatasync(d->fd)) {
		fail(errno ? errno : EIO);
		return;
	}
	uint64_t us = (now_ns(CLOCK_MONOTONIC) - start) / 1000;
	pthread_mutex_lock(&lock);
	d->sync.count++;
	d->sync.bucket[bucket_of(us)]++;
	if (us > d->sync.max)
		d->sync.max = us;
	pthread_mutex_unlock(&lock);
}

/* After a crash the second disk may lack the newest record of the first: a number is never given out twice. */
static void catch_up(void)
{
	char record[RECORD];
	if (disk_count == 2 && disks[1].boot_seq + 1 == disks[0].boot_seq &&
	    pread(disks[0].fd, record, RECORD, place(disks[0].boot_seq)) == RECORD)
		write_durably(&disks[1], record, disks[0].boot_seq);
}

static void write_next(void)
{
	char record[RECORD];
	uint64_t n = seq + 1; /* only this thread changes seq */
	format_record(record, n);
	for (int i = 0; i < disk_count; i++)
		write_durably(&disks[i], record, n);
	pthread_mutex_lock(&lock);
	seq = n;
	pthread_mutex_unlock(&lock);
}

__attribute__((noreturn)) static void write_forever(uint64_t interval_ns)
{
	uint64_t next = now_ns(CLOCK_MONOTONIC);
	for (;;) {
		next += interval_ns;
		uint64_t now = now_ns(CLOCK_MONOTONIC);
		if (next < now)
			next = now;
		else
			sleep_until(next);
		write_next();
	}
}

/* --- HTTP ---------------------------------------------------------------------------------------------- */

static int put_latency(char *out, size_t room, const struct latency *l)
{
	return snprintf(out, room, "{\"count\":%llu,\"p50\":%llu,\"p99\":%llu,\"max\":%llu}",
			(unsigned long long)l->count, (unsigned long long)quantile(l, 0.50),
			(unsigned long long)quantile(l, 0.99), (unsigned long long)l->max);
}

static int status(char *out, size_t room, int reset)
{
	pthread_mutex_lock(&lock);
	int n = snprintf(out, room, "{\"seq\":%llu,\"uptime_ms\":%llu,\"error\":%d,\"disks\":[", (unsigned long long)seq,
			 (unsigned long long)(now_ns(CLOCK_BOOTTIME) / 1000000), error_number);
	for (int i = 0; i < disk_count; i++) {
		struct disk *d = &disks[i];
		n += snprintf(out + n, room - (size_t)n, "%s{\"boot_seq\":%llu,\"boot_intact\":%s,\"fsync_us\":", i ? "," : "",
			      (unsigned long long)d->boot_seq, d->boot_intact ? "true" : "false");
		n += put_latency(out + n, room - (size_t)n, &d->sync);
		n += snprintf(out + n, room - (size_t)n, "}");
		if (reset)
			memset(&d->sync, 0, sizeof d->sync);
	}
	if (reset)
		error_number = 0;
	pthread_mutex_unlock(&lock);
	return n + snprintf(out + n, room - (size_t)n, "]}\n");
}

static int burn(char *out, size_t room, unsigned long megabytes, unsigned long rate)
{
	char path[256];
	snprintf(path, sizeof path, "%s.burn", disks[0].path);
	uint64_t start = now_ns(CLOCK_MONOTONIC), x = start | 1, *data = malloc(MEGABYTE);
	int fd = open(path, O_RDWR | O_CREAT, 0644), failed = fd < 0 ? errno : 0;
	for (unsigned long i = 0; i < megabytes && !failed; i++) {
		for (unsigned k = 0; k < MEGABYTE / sizeof *data; k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17; /* xorshift64 */
			data[k] = x;
		}
		errno = 0;
		if (pwrite(fd, data, MEGABYTE, (off_t)i * MEGABYTE) != MEGABYTE)
			failed = errno ? errno : ENOSPC;
		if (rate) {
			fdatasync(fd);
			sleep_until(start + (i + 1) * 1000000000ULL / rate);
		}
	}
	if (!failed && fsync(fd))
		failed = errno;
	if (fd >= 0)
		close(fd);
	free(data);
	return snprintf(out, room, "{\"megabytes\":%lu,\"ms\":%llu,\"error\":%d}\n", megabytes,
			(unsigned long long)((now_ns(CLOCK_MONOTONIC) - start) / 1000000), failed);
}

static void send_all(int peer, const char *data, int length)
{
	while (length > 0) {
		ssize_t sent = send(peer, data, (size_t)length, MSG_NOSIGNAL);
		if (sent <= 0)
			return;
		data += sent;
		length -= (int)sent;
	}
}

static void *answer(void *argument)
{
	int peer = (int)(intptr_t)argument, used = 0;
	char request[2048] = "", body[1024], head[128];
	while (used < (int)sizeof request - 1 && !strstr(request, "\r\n\r\n")) {
		ssize_t got = recv(peer, request + used, sizeof request - 1 - (size_t)used, 0);
		if (got <= 0)
			break;
		used += (int)got;
		request[used] = 0;
	}
	unsigned long megabytes = 0, rate = 0;
	int length;
	if (sscanf(request, "GET /burn?%lu&%lu", &megabytes, &rate) >= 1)
		length = burn(body, sizeof body, megabytes, rate);
	else
		length = status(body, sizeof body, !strncmp(request, "GET /reset", 10));
	int n = snprintf(head, sizeof head,
			 "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", length);
	send_all(peer, head, n);
	send_all(peer, body, length);
	shutdown(peer, SHUT_WR);
	close(peer);
	return NULL;
}

__attribute__((noreturn)) static void *serve(void *argument)
{
	int listener = (int)(intptr_t)argument;
	for (;;) {
		int peer = accept(listener, NULL, NULL);
		if (peer < 0) {
			usleep(10000);
			continue;
		}
		struct timeval patience = { 5, 0 };
		setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		pthread_t thread;
		if (pthread_create(&thread, NULL, answer, (void *)(intptr_t)peer))
			close(peer);
		else
			pthread_detach(thread);
	}
}

static int listen_on(unsigned short port)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(listener, (void *)&any, sizeof any) || listen(listener, 64)) {
		perror("listen");
		exit(1);
	}
	return listener;
}

/* --- the screen ------------------------------------------------------------------------------------------ */

/* Who takes a picture and cannot ask the guest's agent waits for three seconds in which nothing moves. */
#define SHOW_EVERY_S 5

static void draw(FILE *screen)
{
	pthread_mutex_lock(&lock);
	unsigned long long newest = seq;
	int number = error_number;
	pthread_mutex_unlock(&lock);
	fprintf(screen, "\0337\033[5H"); /* the cursor is somebody else's: back to where it was in the end */
	for (int i = 0; i < disk_count; i++)
		fprintf(screen, "  %-16srecord %llu newest at boot, %s\033[K\r\n", i ? "Second disk" : "First disk",
			(unsigned long long)disks[i].boot_seq, disks[i].boot_intact ? "none missing" : "SOME MISSING");
	fprintf(screen, "  %-16s%llu%s%s\033[K\r\n", "Newest record", newest, number ? ", FAILED: " : "",
		number ? strerror(number) : "");
	fprintf(screen, "  %-16s%llu s\033[K\0338", "Running for",
		(unsigned long long)(now_ns(CLOCK_BOOTTIME) / 1000000000ULL));
	fflush(screen);
}

static void *show(void *path)
{
	FILE *screen = fopen(path, "w");
	if (!screen) {
		perror(path);
		return NULL;
	}
	for (;;) {
		draw(screen);
		sleep(SHOW_EVERY_S);
	}
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: appd INTERVAL_MS PORT FILE [FILE_ON_SECOND_DISK]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	for (int i = 3; i < argc && disk_count < 2; i++)
		open_disk(argv[i]);
	seq = disks[0].boot_seq;
	catch_up();
	write_next(); /* who gets an answer may rely on it that there is a durable record */
	pthread_t server, shower;
	pthread_create(&server, NULL, serve, (void *)(intptr_t)listen_on((unsigned short)atoi(argv[2])));
	if (getenv("SCREEN"))
		pthread_create(&shower, NULL, show, getenv("SCREEN"));
	write_forever(strtoull(argv[1], NULL, 10) * 1000000ULL);
}
