/* What the kernel knows about a stream. Apart from stream.c because <linux/tcp.h>, which alone has the whole of struct
 * tcp_info, and <netinet/tcp.h> exclude each other. */
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "ring/stream.h"

uint32_t ring_stream_taken(const struct ring_stream *stream)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof(info);
    if (getsockopt(stream->fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0) {
        return (uint32_t)info.tcpi_bytes_acked;
    }
    int unread = 0; /* a unix socket: what the peer has not read yet */
    return ioctl(stream->fd, SIOCOUTQ, &unread) == 0 ? (uint32_t)unread : 0;
}
