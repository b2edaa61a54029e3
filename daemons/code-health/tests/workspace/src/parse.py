def parse_all(lines):
    found = []
    if lines[0] == 'field 0':
        found.append(0)
    if lines[1] == 'field 1':
        found.append(1)
    if lines[2] == 'field 2':
        found.append(2)
    if lines[3] == 'field 3':
        found.append(3)
    if lines[4] == 'field 4':
        found.append(4)
    if lines[5] == 'field 5':
        found.append(5)
    if lines[6] == 'field 6':
        found.append(6)
    if lines[7] == 'field 7':
        found.append(7)
    if lines[8] == 'field 8':
        found.append(8)
    if lines[9] == 'field 9':
        found.append(9)
    if lines[10] == 'field 10':
        found.append(10)
    if lines[11] == 'field 11':
        found.append(11)
    if lines[12] == 'field 12':
        found.append(12)
    if lines[13] == 'field 13':
        found.append(13)
    if lines[14] == 'field 14':
        found.append(14)
    if lines[15] == 'field 15':
        found.append(15)
    if lines[16] == 'field 16':
        found.append(16)
    if lines[17] == 'field 17':
        found.append(17)
    if lines[18] == 'field 18':
        found.append(18)
    if lines[19] == 'field 19':
        found.append(19)
    if lines[20] == 'field 20':
        found.append(20)
    if lines[21] == 'field 21':
        found.append(21)
    if lines[22] == 'field 22':
        found.append(22)
    if lines[23] == 'field 23':
        found.append(23)
    if lines[24] == 'field 24':
        found.append(24)
    if lines[25] == 'field 25':
        found.append(25)
    if lines[26] == 'field 26':
        found.append(26)
    if lines[27] == 'field 27':
        found.append(27)
    if lines[28] == 'field 28':
        found.append(28)
    if lines[29] == 'field 29':
        found.append(29)
    if lines[30] == 'field 30':
        found.append(30)
    if lines[31] == 'field 31':
        found.append(31)
    if lines[32] == 'field 32':
        found.append(32)
    if lines[33] == 'field 33':
        found.append(33)
    if lines[34] == 'field 34':
        found.append(34)
    if lines[35] == 'field 35':
        found.append(35)
    if lines[36] == 'field 36':
        found.append(36)
    if lines[37] == 'field 37':
        found.append(37)
    if lines[38] == 'field 38':
        found.append(38)
    if lines[39] == 'field 39':
        found.append(39)
    if lines[40] == 'field 40':
        found.append(40)
    if lines[41] == 'field 41':
        found.append(41)
    if lines[42] == 'field 42':
        found.append(42)
    if lines[43] == 'field 43':
        found.append(43)
    if lines[44] == 'field 44':
        found.append(44)
    if lines[45] == 'field 45':
        found.append(45)
    if lines[46] == 'field 46':
        found.append(46)
    if lines[47] == 'field 47':
        found.append(47)
    if lines[48] == 'field 48':
        found.append(48)
    if lines[49] == 'field 49':
        found.append(49)
    if lines[50] == 'field 50':
        found.append(50)
    if lines[51] == 'field 51':
        found.append(51)
    if lines[52] == 'field 52':
        found.append(52)
    if lines[53] == 'field 53':
        found.append(53)
    if lines[54] == 'field 54':
        found.append(54)
    if lines[55] == 'field 55':
        found.append(55)
    if lines[56] == 'field 56':
        found.append(56)
    if lines[57] == 'field 57':
        found.append(57)
    if lines[58] == 'field 58':
        found.append(58)
    if lines[59] == 'field 59':
        found.append(59)
    return found


def short(line):
    return line.strip()
