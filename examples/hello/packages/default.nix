# A package set of one program, so that an image can be built where there is no nixpkgs.
{ system ? builtins.currentSystem }:
let
  # What differs from machine to machine: the ELF header's `e_machine`, the length of the file, and the
  # instructions that print `text` with the system call `write` and end with `exit`.
  machines = {
    x86_64-linux = {
      number = "\\076";
      length = "\\301";
      # mov eax, 1; mov edi, 1; lea rsi, [rip + 16]; mov edx, 40; syscall; mov eax, 60; xor edi, edi; syscall
      program = [
        "\\270\\001\\000\\000\\000\\277\\001\\000\\000\\000\\110\\215"
        "\\065\\020\\000\\000\\000\\272\\050\\000\\000\\000\\017\\005"
        "\\270\\074\\000\\000\\000\\061\\377\\017\\005"
      ];
    };
    aarch64-linux = {
      number = "\\267";
      length = "\\300";
      # mov x0, 1; adr x1, 28; mov x2, 40; mov x8, 64; svc 0; mov x0, 0; mov x8, 93; svc 0
      program = [
        "\\040\\000\\200\\322\\341\\000\\000\\020\\002\\005\\200\\322"
        "\\010\\010\\200\\322\\001\\000\\000\\324\\000\\000\\200\\322"
        "\\250\\013\\200\\322\\001\\000\\000\\324"
      ];
    };
  };
  inherit (machines.${system}) number length program;
in
{
  # Written to a file byte by byte: a 64-bit ELF program of some 190 bytes that prints one line. It needs
  # no library.
  hello = derivation {
    name = "hello-1.0";
    inherit system;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    allowSubstitutes = false;
    args = [ "-c" ''
      mkdir -p $out/bin $out/share/doc
      echo "Prints one line." > $out/share/doc/README
      for part in $elf $program; do printf "$part"; done > $out/bin/hello
      printf '%s\n' "$text" >> $out/bin/hello
      chmod +x $out/bin/hello
    '' ];
    # ELF header (ELF-64 object file format, version 1.5) and one program header.
    elf = [
      "\\177\\105\\114\\106\\002\\001\\001\\000\\000\\000\\000\\000"
      "\\000\\000\\000\\000\\002\\000${number}\\000\\001\\000\\000\\000"
      "\\170\\000\\100\\000\\000\\000\\000\\000\\100\\000\\000\\000"
      "\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000"
      "\\000\\000\\000\\000\\100\\000\\070\\000\\001\\000\\000\\000"
      "\\000\\000\\000\\000\\001\\000\\000\\000\\005\\000\\000\\000"
      "\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\100\\000"
      "\\000\\000\\000\\000\\000\\000\\100\\000\\000\\000\\000\\000"
      "${length}\\000\\000\\000\\000\\000\\000\\000${length}\\000\\000\\000"
      "\\000\\000\\000\\000\\000\\020\\000\\000\\000\\000\\000\\000"
    ];
    inherit program;
    text = "Hello from an image that nixlayer made.";
  };
}
