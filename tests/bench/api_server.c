/* A server of the chat API that answers each request after the same time, and a client that only asks: what two
   programs of C leave of a machine is what any harness on it can use.

       cc -O2 -o api_server api_server.c
       api_server serve MILLISECONDS < REPLY      prints its port; at SIGTERM: requests, answers, when the first
                                                  request came and the last answer went (seconds of CLOCK_MONOTONIC),
                                                  processor seconds
       api_server ask PORT CONNECTIONS NUMBER < REQUEST   prints seconds and processor seconds

   REPLY and REQUEST are whole messages of HTTP/1.1. A GET is answered by an empty list of models. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 4096   /* connections */
#define ROOM 65536  /* bytes of one request */

typedef struct { char *came; int length; int is_open; int generation; } Line;
typedef struct { double due; int line; int generation; } Answer;

static Line lines[MOST];
static Answer queue[MOST];
static unsigned first_due, after_last_due;
static char message[ROOM];
static int message_length;
static volatile sig_atomic_t is_over;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double processor(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static void end(int number) { (void)number; is_over = 1; }

static void fail(const char *what) { perror(what); exit(1); }

static void read_message(void) {
    int came;
    while ((came = read(0, message + message_length, ROOM - message_length)) > 0) message_length += came;
}

/* Bytes of the first whole message in a text, head and content; 0 where some are still to come. */
static int whole(const char *text, int length) {
    const char *after = memmem(text, length, "\r\n\r\n", 4);
    if (!after) return 0;
    int head = after + 4 - text, content = 0;
    for (const char *line = text; line < after; line = (const char *)memchr(line, '\n', after + 2 - line) + 1)
        if (!strncasecmp(line, "content-length:", 15)) content = atoi(line + 15);
    return head + content <= length ? head + content : 0;
}

static void watch(int poll, int line) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = line};
    int one = 1;
    fcntl(line, F_SETFL, O_NONBLOCK);
    setsockopt(line, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(poll, EPOLL_CTL_ADD, line, &event)) fail("epoll_ctl");
    if (!lines[line].came) lines[line].came = malloc(ROOM);
    lines[line].length = 0;
    lines[line].is_open = 1;
    lines[line].generation++;
}

/* Bytes that came, or 0 where the connection is closed; -1 where nothing is there. */
static int receive(int line) {
    Line *one = &lines[line];
    int came = recv(line, one->came + one->length, ROOM - one->length, 0);
    if (came > 0) one->length += came;
    else if (came == 0 || errno != EAGAIN) { close(line); one->is_open = 0; return 0; }
    return came;
}

static void drop(Line *one, int length) {
    one->length -= length;
    memmove(one->came, one->came + length, one->length);
}

static int listening(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (void *)&address, sizeof address) || listen(server, 4096)) fail("listen");
    getsockname(server, (void *)&address, &size);
    *port = ntohs(address.sin_port);
    return server;
}

static void serve(double latency) {
    static const char models[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"data\": []}";
    struct epoll_event events[256];
    int port, server = listening(&port), poll = epoll_create1(0), requests = 0, answers = 0;
    double first = 0, last = 0;
    struct epoll_event accepts = {.events = EPOLLIN, .data.fd = server};
    fcntl(server, F_SETFL, O_NONBLOCK);
    epoll_ctl(poll, EPOLL_CTL_ADD, server, &accepts);
    printf("%d\n", port);
    fflush(stdout);
    while (!is_over) {
        int wait = -1;
        while (first_due != after_last_due) {
            Answer *next = &queue[first_due % MOST];
            double left = next->due - now();
            if (left > 0) { wait = (int)(left * 1000) + 1; break; }
            first_due++;
            if (!lines[next->line].is_open || lines[next->line].generation != next->generation) continue;
            if (send(next->line, message, message_length, MSG_NOSIGNAL) == message_length) answers++, last = now();
        }
        int number = epoll_wait(poll, events, 256, wait);
        for (int i = 0; i < number; i++) {
            int line = events[i].data.fd, length;
            if (line == server) {
                while ((line = accept(server, 0, 0)) >= 0) watch(poll, line);
                continue;
            }
            Line *one = &lines[line];
            if (receive(line) <= 0) continue;
            while ((length = whole(one->came, one->length))) {
                if (one->came[0] == 'G') send(line, models, sizeof models - 1, MSG_NOSIGNAL);
                else {
                    if (!requests++) first = now();
                    queue[after_last_due++ % MOST] = (Answer){now() + latency, line, one->generation};
                }
                drop(one, length);
            }
        }
    }
    printf("%d %d %.6f %.6f %.6f\n", requests, answers, first, last, processor());
}

static void ask(int port, int connections, int left) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event events[256];
    int poll = epoll_create1(0), to_send = left;
    double began = now();
    address.sin_port = htons(port);
    for (int i = 0; i < connections && to_send > 0; i++, to_send--) {
        int line = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(line, (void *)&address, sizeof address)) fail("connect");
        watch(poll, line);
        send(line, message, message_length, MSG_NOSIGNAL);
    }
    while (left > 0) {
        int number = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < number; i++) {
            int line = events[i].data.fd, length;
            Line *one = &lines[line];
            if (receive(line) <= 0 || !(length = whole(one->came, one->length))) continue;
            drop(one, length);
            left--;
            if (to_send-- > 0) send(line, message, message_length, MSG_NOSIGNAL);
        }
    }
    printf("%.6f %.6f\n", now() - began, processor());
}

int main(int count, char **words) {
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, 0);
    read_message();
    if (count == 3 && !strcmp(words[1], "serve")) serve(atof(words[2]) / 1000);
    else if (count == 5 && !strcmp(words[1], "ask")) ask(atoi(words[2]), atoi(words[3]), atoi(words[4]));
    else return fprintf(stderr, "serve MILLISECONDS | ask PORT CONNECTIONS NUMBER\n"), 2;
    return 0;
}
