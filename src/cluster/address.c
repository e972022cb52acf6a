#include "cluster/address.h"

#include "base/error.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_MOST 65535

static int read_port(const char *text, int *out) {
    int port = 0;
    if (!*text)
        return 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return 0;
        port = port * 10 + (*text - '0');
        if (port > PORT_MOST)
            return 0;
    }
    *out = port;
    return 1;
}

/* What no host holds. TensorFlow itself minds the '/', and bytes that are not UTF-8. */
static int is_host(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= ' ' || strchr("/,;=\"'", text[i]) || text[i] == 0x7f)
            return 0;
    return len > 0;
}

int bly_address_split(const char *address, char *host, size_t room, int *out_port) {
    const char *colon = strrchr(address, ':');
    if (!colon || !is_host(address, (size_t)(colon - address)) || !bly_is_utf8(address) ||
        !read_port(colon + 1, out_port))
        return 0;
    size_t len = (size_t)(colon - address);
    if (*address == '[' && len > 2 && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    if (!host)
        return 1;
    if (len >= room)
        return 0;
    memcpy(host, address, len);
    host[len] = '\0';
    return 1;
}

const char *bly_target_address(const char *target) {
    static const char scheme[] = "grpc://";
    return bly_starts_with(target, scheme) ? target + sizeof scheme - 1 : NULL;
}

/* TensorFlow takes the port on every interface. */
belay_code bly_port_check(int port, belay_error *err) {
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1, wrong = 0;
    if (port == 0)
        return BELAY_OK;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return BELAY_OK; /* TensorFlow will say */
    any.sin_addr.s_addr = htonl(INADDR_ANY);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);     /* as gRPC does */
    if (bind(fd, (const struct sockaddr *)&any, sizeof any) != 0) /* fails where one listens */
        wrong = errno;
    close(fd);
    if (wrong == EADDRINUSE)
        return bly_fail(err, BELAY_UNAVAILABLE, "port %d is in use already", port);
    if (wrong == EACCES)
        return bly_fail(err, BELAY_PERMISSION_DENIED, "port %d is not for this user", port);
    return BELAY_OK;
}

/* Connects within the time. 0, or an errno. */
static int connect_in_time(int fd, const struct sockaddr *to, socklen_t size, int timeout_ms) {
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int wrong = 0;
    socklen_t len = sizeof wrong;
    if (connect(fd, to, size) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    int ready = poll(&wait, 1, timeout_ms);
    if (ready <= 0)
        return ready == 0 ? ETIMEDOUT : errno;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &wrong, &len) == 0 ? wrong : errno;
}

/* The greeting of HTTP/2, and settings that are all the default. A system accepts a connection for
 * a process that is stopped; only the process itself says something. */
static int says_something(int fd, int timeout_ms) {
    static const char greeting[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    /* Where that fails the other end has hung up, and is no less alive. */
    if (send(fd, greeting, sizeof greeting - 1, MSG_NOSIGNAL) < 0)
        return 1;
    return poll(&wait, 1, timeout_ms) != 0;
}

/* Nothing is wrong with the other end where this process has no room for one more connection, or
 * its name server does not answer. A host with a colon that is no address of IPv6 is gRPC's way to
 * name others: "ipv4:10.0.0.1". */
static int says_nothing(int wrong) {
    return wrong == EMFILE || wrong == ENFILE || wrong == ENOMEM || wrong == ENOBUFS;
}

/* A machine refuses at once where nobody listens; that nothing comes back may be the network's. */
static int is_out_of_reach(int wrong) {
    return wrong == ETIMEDOUT || wrong == EHOSTUNREACH || wrong == ENETUNREACH ||
           wrong == ENETDOWN || wrong == EHOSTDOWN;
}

static int lookup_says_nothing(int result, const char *host) {
    return result == EAI_AGAIN || result == EAI_MEMORY || result == EAI_SYSTEM ||
           strchr(host, ':') != NULL;
}

/* 1: somebody listens; 0: nobody does; -1: there is no telling. `answers`, where it is not NULL:
 * whether who listens says something, or else the machine that nobody does. */
static int look(const char *address, int timeout_ms, int *answers, bly_buf *why) {
    char host[256], port_text[16];
    int port, wrong = EINVAL;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (!bly_address_split(address, host, sizeof host, &port)) {
        bly_buf_puts(why, "not of the form HOST:PORT");
        return -1;
    }
    snprintf(port_text, sizeof port_text, "%d", port);
    int result = getaddrinfo(host, port_text, &hints, &found);
    if (result != 0) {
        bly_buf_puts(why, gai_strerror(result));
        return lookup_says_nothing(result, host) ? -1 : 0;
    }
    for (const struct addrinfo *one = found; one && wrong != 0; one = one->ai_next) {
        int fd = socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
            wrong = errno;
            continue;
        }
        wrong = connect_in_time(fd, one->ai_addr, one->ai_addrlen, timeout_ms);
        if (wrong == 0 && answers)
            *answers = says_something(fd, timeout_ms);
        close(fd);
    }
    freeaddrinfo(found);
    if (wrong == 0)
        return 1;
    bly_buf_puts(why, strerror(wrong));
    if (answers)
        *answers = !is_out_of_reach(wrong);
    return says_nothing(wrong) ? -1 : 0;
}

int bly_address_listens(const char *address, int timeout_ms, bly_buf *why) {
    return look(address, timeout_ms, NULL, why) == 1;
}

int bly_address_answers(const char *address, int timeout_ms, bly_buf *why) {
    int answers = 1;
    int found = look(address, timeout_ms, &answers, why);
    if (found == 0)
        return answers ? 0 : -2;
    if (answers || found < 0)
        return 1;
    bly_buf_puts(why, "the process there is stopped, or hangs");
    return -1;
}
