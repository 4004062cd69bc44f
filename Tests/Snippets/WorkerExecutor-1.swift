import Lanyard
