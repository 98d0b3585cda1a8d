# prelude.tcl - what SQLite's scripts need beside the VFS: copying a database by copying its file.
#
#   testfixture prelude.tcl TESTDIR SUITE SCRIPT     one script, as the suite would run it
#   testfixture prelude.tcl TESTDIR SUITE            prints the suite's scripts
#
# A stand-in (harness.h) names a database, so its copy has to name a copy of it: with Corallite a
# branch that begins at the head, for the control a copy of the hidden file and its WAL.

proc harness_name_of {path} {
    if {[catch {open $path rb} f]} {return ""}
    set text [read $f 1024]
    close $f
    if {![regexp {^corallite stand-in (\S+) \d+ end +\n$} $text -> name]} {return ""}
    return $name
}

proc harness_make_copy {name} {
    set mark c[clock microseconds]
    if {$::env(HARNESS_BACKEND) eq "corallite"} {
        lassign [split $name /] db branch
        if {$branch eq ""} {set branch main}
        close [open $::env(HARNESS_HIDDEN)/copied-$db w]
        exec $::env(HARNESS_COMMAND) branch create $db/$mark --from $branch \
            --server $::env(CORALLITE_SERVER)
        return $db/$mark
    }
    foreach suffix {"" -wal} {
        set from $::env(HARNESS_HIDDEN)/$name$suffix
        if {[harness_file exists $from]} {
            harness_file copy -force $from $::env(HARNESS_HIDDEN)/$name.$mark$suffix
        }
    }
    return $name.$mark
}

proc harness_copy {args} {
    set words [lsearch -all -inline -not -regexp $args {^--?(force)?$}]
    lassign $words from to
    set name [expr {[llength $words] == 2 ? [harness_name_of $from] : ""}]
    if {$name eq ""} {return [harness_file copy {*}$args]}
    if {[harness_file isdirectory $to]} {set to [harness_file join $to [harness_file tail $from]]}
    if {[harness_file exists $to] && "-force" ni $args} {
        error "error copying \"$from\" to \"$to\": file already exists"
    }
    # A database that was never written is not there to be copied, but its file is: empty.
    if {[catch {harness_make_copy $name} copy]} {
        if {![string match "*there is no database*" $copy]} {error $copy}
        set copy ""
    }
    set f [open $to wb]
    if {$copy ne ""} {
        harness_file stat $to st
        puts $f [format %-511s "corallite stand-in $copy $st(ino) end"]
    }
    close $f
    return ""
}

set ::harness_procs {}
foreach p {harness_name_of harness_make_copy harness_copy} {
    append ::harness_procs [list proc $p [info args $p] [info body $p]] \n
}
append ::harness_procs {
    if {[info commands harness_file] eq ""} {
        rename file harness_file
        proc file {what args} {
            if {$what eq "copy"} {return [harness_copy {*}$args]}
            uplevel 1 [list harness_file $what {*}$args]
        }
    }
}

# Each script runs in an interpreter of its own, which is prepared by this command.
rename load_testfixture_extensions harness_load_extensions
proc load_testfixture_extensions {interpreter} {
    harness_load_extensions $interpreter
    interp eval $interpreter $::harness_procs
}

lassign $argv testdir suite script
set permutations [file join $testdir permutations.test]
if {$script eq ""} {
    set argv {}
    set argv0 [file join $testdir none]
    source $permutations
    array set spec $::testspec($suite)
    foreach name [lsort $spec(-files)] {
        if {[file tail $name] eq $name} {set name [file join $testdir $name]}
        puts [file normalize $name]
    }
    exit 0
}
eval $::harness_procs
set argv [list $suite [file tail $script]]
set argv0 $permutations
source $permutations
