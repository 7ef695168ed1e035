/* Any bytes as a response, to a GET and to a HEAD. */
#include "http_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {(const char *)data, size};
    if (size == 0 || size > 8192) {
        return 0;
    }
    fuzz_check_message(HTTP_RESPONSE, false, input);
    fuzz_check_message(HTTP_RESPONSE, true, input);
    return 0;
}
