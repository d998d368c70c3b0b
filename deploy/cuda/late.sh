#!/usr/bin/env bash
# late.sh TOOLKIT BINDINGS FOLDER: makes FOLDER/lib*.a, to link a program against instead of CUDA's shared libraries.
#
# TOOLKIT/lib holds libcublas.so.N and the others of that toolkit; BINDINGS is the source of the crate `cudarc`, whose
# declarations say what a program may call. The driver's library is nowhere but on a host with a GPU, and the others
# take 800 MB; programs that are linked like this start without any of them, and say what is missing when they need it.
set -euo pipefail
toolkit=$1 bindings=$2 folder=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"

for library in cuda:driver nvrtc:nvrtc cublas:cublas cublasLt:cublaslt curand:curand; do
    name=${library%:*} module=${library#*:}
    if [ "$name" = cuda ]; then
        soname=libcuda.so.1
    else
        soname=$(basename "$(ls "$toolkit/lib/lib$name".so.*)")
    fi
    source=$folder/$name.S
    {
        cat "$here/late.S"
        printf '.section .rodata\nlate_library: .asciz "%s"\n' "$soname"
        grep -oE '\bpub unsafe fn (cu[A-Zbr]|nvrtc)\w+' "$bindings/src/$module/sys/mod.rs" | sort -u \
            | awk '{ print "late_entry " $NF ", late_library" }'
    } >"$source"
    cc -c "$source" -o "$folder/$name.o"
    cc -O2 -fPIC -c "$here/late.c" -o "$folder/find.o"
    rm -f "$folder/lib$name.a"
    ar rc "$folder/lib$name.a" "$folder/$name.o" "$folder/find.o"
done
# The runtime is a static library already, and looks for the driver's when it is first used.
cp "$toolkit/lib/libcudart_static.a" "$folder/libcudart.a"
