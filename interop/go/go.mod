module sevenfold/interop

go 1.22
