"""The floor: what one record to three processes costs at least (bench/floor.c)."""


class Floor:
    name = "floor"
    title = ("one record of 512 bytes to three processes over loopback TCP, each writes it to preallocated "
             "space, syncs and acknowledges; two acknowledgements")

    def __init__(self, place):
        self.place = place

    @staticmethod
    def missing(place):
        return None

    def start(self):
        self.dir = self.place.subdir("floor")

    def stop(self):
        pass

    def insert(self, threads, seconds, sync=True):
        assert threads == 1
        # floor.c reads its files back before it prints.
        return self.place.figures([self.place.program("floor"), "--dir", self.dir, "--seconds", seconds,
                                   "--sync", int(sync)], 60 + seconds)

    def counted(self):
        return None, None
