/* The floor: a bare level-triggered epoll loop that answers every request head with the same bytes.
 *
 * It parses nothing but the empty line, so no server that does its work can cost less than about this.
 * Usage: floor PORT. One thread; keep-alive; pipelined heads are answered together. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS_MAX = 32768, EVENTS_MAX = 256, READ_BYTES = 8192, BATCH_MAX = 16 };

static const char ANSWER[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n"
                             "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: floor\r\n\r\nHello, world!";

/* How many bytes of CR LF CR LF each client has sent so far. */
static uint8_t matched[CLIENTS_MAX];

static int heads_ended(int client, const char *bytes, ssize_t length)
{
    int ended = 0;
    uint8_t state = matched[client];
    for (ssize_t i = 0; i < length; i++) {
        /* Outside an end of line only CR matters: let memchr skip to it. */
        if (state == 0) {
            const char *cr = memchr(bytes + i, '\r', (size_t)(length - i));
            if (!cr)
                break;
            i = cr - bytes;
        }
        if (bytes[i] == ((state & 1) ? '\n' : '\r'))
            state++;
        else
            state = bytes[i] == '\r';
        if (state == 4) {
            ended++;
            state = 0;
        }
    }
    matched[client] = state;
    return ended;
}

static void handle(int client)
{
    static char bytes[READ_BYTES], answers[BATCH_MAX * sizeof ANSWER];
    const size_t size = sizeof ANSWER - 1;
    ssize_t length = read(client, bytes, sizeof bytes);
    if (length <= 0) {
        close(client);
        return;
    }
    for (int ended = heads_ended(client, bytes, length); ended > 0; ended -= BATCH_MAX) {
        int batch = ended < BATCH_MAX ? ended : BATCH_MAX;
        for (int i = 0; i < batch; i++)
            memcpy(answers + (size_t)i * size, ANSWER, size);
        if (write(client, answers, (size_t)batch * size) != (ssize_t)((size_t)batch * size)) {
            close(client);
            return;
        }
    }
}

static void accept_all(int poller, int listener)
{
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (client < 0)
            return;
        if (client >= CLIENTS_MAX) {
            close(client);
            continue;
        }
        matched[client] = 0;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = client};
        epoll_ctl(poller, EPOLL_CTL_ADD, client, &event);
    }
}

int main(int argc, char **argv)
{
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poller = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event events[EVENTS_MAX], event = {.events = EPOLLIN, .data.fd = listener};

    if (argc != 2) {
        fprintf(stderr, "usage: floor PORT\n");
        return 2;
    }
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("floor");
        return 1;
    }
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++)
            if (events[i].data.fd == listener)
                accept_all(poller, listener);
            else
                handle(events[i].data.fd);
    }
}
