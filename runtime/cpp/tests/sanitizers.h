// Whether a test is compiled with AddressSanitizer or ThreadSanitizer: GCC says so by macros, clang by its features.
#ifndef LDM_TESTS_SANITIZERS_H
#define LDM_TESTS_SANITIZERS_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool is_sanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool is_sanitized = true;
#else
constexpr bool is_sanitized = false;
#endif
#else
constexpr bool is_sanitized = false;
#endif

#endif
