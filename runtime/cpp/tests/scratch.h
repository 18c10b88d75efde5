// A folder of a test, removed at its end; the user's cache folder is in it.
#ifndef LDM_TESTS_SCRATCH_H
#define LDM_TESTS_SCRATCH_H

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/check.h"

struct Scratch {
    std::string path;

    Scratch() {
        char name[] = "/tmp/ldm-test-XXXXXX";
        if (::mkdtemp(name) == nullptr) std::exit(2);
        path = name;
        ::setenv("XDG_CACHE_HOME", at("cache").c_str(), 1);
    }
    ~Scratch() {
        std::string command = "rm -rf '" + path + "'";
        CHECK(std::system(command.c_str()) == 0);
    }

    std::string at(const std::string& name) const { return path + "/" + name; }
    std::string folder(const std::string& name) const {
        std::string command = "mkdir -p '" + at(name) + "'";
        CHECK(std::system(command.c_str()) == 0);
        return at(name);
    }
    void write(const std::string& name, const std::string& content) const {
        std::FILE* file = std::fopen(at(name).c_str(), "wb");
        CHECK(file != nullptr && std::fwrite(content.data(), 1, content.size(), file) == content.size());
        if (file != nullptr) std::fclose(file);
    }
};

#endif
