// The FerretDB that tests run in place of MongoDB: its version and, in go.sum, its hash.
module mta-ferretdb

go 1.22

require github.com/FerretDB/FerretDB v1.24.0
