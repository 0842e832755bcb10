# A package set of one program, so that an image can be built where there is no nixpkgs.
{ }:
{
  # Written to a file byte by byte: a 64-bit ELF program of 193 bytes for Linux on x86-64 that prints
  # one line with the system call `write` and ends with `exit`. It needs no library.
  hello = derivation {
    name = "hello-1.0";
    system = "x86_64-linux";
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
      "\\000\\000\\000\\000\\002\\000\\076\\000\\001\\000\\000\\000"
      "\\170\\000\\100\\000\\000\\000\\000\\000\\100\\000\\000\\000"
      "\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000"
      "\\000\\000\\000\\000\\100\\000\\070\\000\\001\\000\\000\\000"
      "\\000\\000\\000\\000\\001\\000\\000\\000\\005\\000\\000\\000"
      "\\000\\000\\000\\000\\000\\000\\000\\000\\000\\000\\100\\000"
      "\\000\\000\\000\\000\\000\\000\\100\\000\\000\\000\\000\\000"
      "\\301\\000\\000\\000\\000\\000\\000\\000\\301\\000\\000\\000"
      "\\000\\000\\000\\000\\000\\020\\000\\000\\000\\000\\000\\000"
    ];
    # mov eax, 1; mov edi, 1; lea rsi, [rip + 16]; mov edx, 40; syscall; mov eax, 60; xor edi, edi; syscall
    program = [
      "\\270\\001\\000\\000\\000\\277\\001\\000\\000\\000\\110\\215"
      "\\065\\020\\000\\000\\000\\272\\050\\000\\000\\000\\017\\005"
      "\\270\\074\\000\\000\\000\\061\\377\\017\\005"
    ];
    text = "Hello from an image that nixlayer made.";
  };
}
